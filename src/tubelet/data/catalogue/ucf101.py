"""Offer UCF101: 13,320 clips of 101 actions in 25 groups each, with its three official splits.

The official lists follow one rule, which is checked against them: split n tests the groups 7n - 6 to 7n, the groups 22
to 25 are never tested. So the table below gives all lists, and none needs to be fetched. Clips of one group come from
one video.

Source: Soomro, Zamir, Shah 2012, arXiv 1212.0402; classInd.txt, trainlist0n.txt and testlist0n.txt of
UCF101TrainTestSplits-RecognitionTask.zip; size and hash of the zip as in tensorflow/datasets, url_checksums/ucf101.txt.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from tubelet.data.catalogue.entry import Request, register_dataset
from tubelet.data.catalogue.shelf import Missing, Shelf, index_files
from tubelet.data.sample import Sample
from tubelet.fetching import Remote

__all__ = ["UCF101_CLASSES", "UCF101_REMOTES", "list_ucf101"]

SPLITS = 3
TESTED_GROUPS = 7
"""Groups that each split tests."""

UCF101_REMOTES = [
    Remote(
        "https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",
        "UCF101_videos.zip",
        (("sha256", "dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d"),),
        6_960_400_115,
    ),
    Remote("https://www.crcv.ucf.edu/datasets/human-actions/ucf101/UCF101.rar", "UCF101.rar"),
]
"""The zip, of which a hash is known and which any Python unpacks, and the official rar with the same clips."""

_CLIPS = """
ApplyEyeMakeup 6467777575566575554655677
ApplyLipstick 5445554444454455544557454
Archery 7755566577747475474745767
BabyCrawling 4644566465466466565747466
BalanceBeam 4444474444445444644454544
BandMarching 7774747777765677467665667
BaseballPitch 6475777775547476775447777
Basketball 7664444455554576457767647
BasketballDunk 7464646555554776764644554
BenchPress 6777777774577765776747577
Biking 4745756646646455664775474
Billiards 6757654675777775577475467
BlowDryHair 4555577747764554554564744
BlowingCandles 4445574444464444444444446
BodyWeightSquats 4454454475444444444644457
Bowling 7474777777746574757767775
BoxingPunchingBag 7777777774574777467777777
BoxingSpeedBag 4457557574657675745544547
BreastStroke 4444444444444444454444444
BrushingTeeth 4754556645464544575547677
CleanAndJerk 5465445444474644444644444
CliffDiving 6454776467674744577746554
CricketBowling 7745454574765567567567447
CricketShot 7777777777777777655767577
CuttingInKitchen 5445654447444444444444446
Diving 7777674677677475444776674
Drumming 7757667547777677767774777
Fencing 6555544465554444444444444
FieldHockeyPenalty 5647774457464764444444456
FloorGymnastics 5445477475464564674554445
FrisbeeCatch 6555556556454546556656444
FrontCrawl 4467457565744744774766764
GolfSwing 6476745644744444766766777
Haircut 4465446677544445456747774
Hammering 4455465477457774776477674
HammerThrow 6777675677677654557557745
HandstandPushups 4444444544677467574765547
HandstandWalking 4445746444444444474444464
HeadMassage 5774675744774774775567747
HighJump 5746546554745445445545655
HorseRace 4456466544745445566554574
HorseRiding 7777777667774766667767677
HulaHoop 7455445564466556544745645
IceDancing 7767667767475646567777777
JavelinThrow 4444645445644666544444565
JugglingBalls 4675567564554544444446445
JumpingJack 7444675476447444447444447
JumpRope 4747556774755467574776576
Kayaking 6447474665744477675777664
Knitting 4556545457645575644444447
LongJump 7567545667666555556444444
Lunges 7444477446756744457454644
MilitaryParade 7444446575554574567444447
Mixing 7677765575776774444444444
MoppingFloor 4646545444444444664444444
Nunchucks 4676444756657464764464556
ParallelBars 4447576564644444444444444
PizzaTossing 4547454444544444445444765
PlayingCello 7747775677777477777757777
PlayingDaf 4747775757654776477777647
PlayingDhol 7777777777767746767477757
PlayingFlute 7777767776655676757465657
PlayingGuitar 6477577747777777777765747
PlayingPiano 4444444444444447644444444
PlayingSitar 4677767777744747777776774
PlayingTabla 4456444455455445464444445
PlayingViolin 4444444444444444444444444
PoleVault 5777554447575747777674777
PommelHorse 7445447444477444646747444
PullUps 4444444444444444444444444
Punch 5445777776777767777477777
PushUps 5445444444444444444444444
Rafting 4444444645445547645444444
RockClimbingIndoor 5574677747466545744677677
RopeClimbing 4644745445447555557444445
Rowing 4676445467677774746454556
SalsaSpin 7766656566664665444555454
ShavingBeard 4774777777466676777777776
Shotput 7765777776774477544445745
SkateBoarding 4645445547564464465545455
Skiing 6577474765447455446775465
Skijet 4444444444444444444444444
SkyDiving 4454545445444454564644444
SoccerJuggling 5646657474665747777657676
SoccerPenalty 6555776655576675454555664
StillRings 5474444446444444444474447
SumoWrestling 4444477744455444575444444
Surfing 7644444756475477744644444
Swing 5547777564644575444665554
TableTennisShot 6457764474544577447747777
TaiChi 4444444444444444444444444
TennisSwing 7777777677777777766666666
ThrowDiscus 4744577465765454574474555
TrampolineJumping 4645445466654456446546444
Typing 7674676777774744444744444
UnevenBars 4444444444444475444444444
VolleyballSpiking 4447547664647444444444444
WalkingWithDog 4655556565555445545744464
WallPushups 4454576555655557755674445
WritingOnBoard 7774677467646457574777777
YoYo 7565544565645446646466645
"""
# One line a class, in the order of classInd.txt, which is not quite that of the alphabet; the digits count the clips
# of the groups 1 to 25.

_COUNTS: dict[str, str] = dict(line.split() for line in _CLIPS.split("\n") if line)
# The folder and the class are spelled otherwise than the files.
_FILE_NAMES = {"HandstandPushups": "HandStandPushups"}

UCF101_CLASSES = tuple(_COUNTS)
"""Class names in the order of classInd.txt: a class's place is its index there, less one."""


def list_ucf101(fold: int) -> Iterator[tuple[str, str, str, str]]:
    """List the clips of an official split as (path, label, split, group), in the order of classes and groups.

    Args:
        fold: 1, 2 or 3.

    Example:
        >>> next(list_ucf101(1))
        ('ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi', 'ApplyEyeMakeup', 'test', 'ApplyEyeMakeup_g01')
    """
    tested = range(TESTED_GROUPS * (fold - 1) + 1, TESTED_GROUPS * fold + 1)
    for label, digits in _COUNTS.items():
        spelled = _FILE_NAMES.get(label, label)
        for group, count in enumerate(digits, start=1):
            split = "test" if group in tested else "train"
            for clip in range(1, int(count) + 1):
                yield f"{label}/v_{spelled}_g{group:02d}_c{clip:02d}.avi", label, split, f"{label}_g{group:02d}"


@register_dataset(
    "ucf101",
    summary="101 actions, 13,320 clips of 7 s from the web, 320x240",
    classes=len(UCF101_CLASSES),
    license="research use",
    size_bytes=6_960_400_115,
    splits=SPLITS,
    citation="Soomro, Zamir, Shah: UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild. 2012",
    homepage="https://www.crcv.ucf.edu/data/UCF101.php",
)
def _fetch(folder: Path, request: Request) -> Path:
    shelf = Shelf("ucf101", folder, request)
    table = f"split{request.fold}.csv"
    return shelf.find(table) or _make_tables(shelf) / table


def _make_tables(shelf: Shelf) -> Path:
    """Find the clips, which archives hold in folders or all in one, and write a table of each split."""
    root = shelf.open(*UCF101_REMOTES)
    # One of the archives may spell 'Handstand' otherwise than the lists do.
    found = {name.casefold(): path for name, path in index_files(root, (".avi", ".mp4", ".webm", ".mkv")).items()}
    tables: dict[str, list[Sample]] = {}
    missing: list[Missing] = []
    for fold in range(1, SPLITS + 1):
        rows = tables[f"split{fold}.csv"] = []
        for name, label, split, group in list_ucf101(fold):
            place = found.get(Path(name).stem.casefold())
            if place is not None and place.stat().st_size > 0:
                rows.append(Sample(os.path.abspath(place), label, split, group))  # noqa: PTH100 - links stay links
            elif fold == 1:
                missing.append(Missing(name, label, "", "absent" if place is None else "empty"))
    shelf.publish(tables, UCF101_CLASSES, missing)
    return shelf.home
