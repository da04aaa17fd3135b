"""`tubelet doctor`: is this machine ready?"""

__all__ = ["report_doctor"]


def report_doctor(*, json: bool = False) -> int:
    """Show versions, device, decoders and codecs; exit status 1 where a requirement is not met.

    Parameters
    ----------
    json: bool
        Print one JSON object.
    """
    from tubelet.cli.tables import print_findings
    from tubelet.doctor import examine

    return print_findings(examine(), as_json=json)
