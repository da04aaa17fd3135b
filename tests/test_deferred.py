"""Hold that a package may offer names whose modules are imported when a name is used, and no sooner."""

import sys
import types

import pytest

import tubelet
import tubelet.training
from tubelet.deferred import defer


def test_a_name_is_loaded_on_first_use_and_kept(monkeypatch):
    package = types.ModuleType("late")
    monkeypatch.setitem(sys.modules, "late", package)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    package.__getattr__, package.__dir__ = defer("late", {"d": "this", "nothing": "no_such_module"})
    assert {"d", "nothing"} <= set(dir(package))
    assert "this" not in sys.modules
    assert package.d["A"] == "N"
    assert vars(package)["d"] is sys.modules["this"].d
    with pytest.raises(AttributeError, match="module 'late' has no attribute 'e'"):
        _ = package.e


@pytest.mark.parametrize("package", [tubelet, tubelet.training])
def test_what_a_package_offers_is_where_it_says(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    assert set(package.__all__) == set(package._HOMES)
