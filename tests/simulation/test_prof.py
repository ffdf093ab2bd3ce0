import cProfile
import pstats
import time

import pytest

from tests.simulation.faults import Faults, points
from tests.simulation.runs import CALM, Studio
from tests.simulation.scenes import BY_NAME

pytestmark = pytest.mark.django_db


def test_prof(place):
    studio = Studio(place)
    with studio.scene(BY_NAME["create"]) as rehearsed:
        run = rehearsed.play(CALM)
        prof = cProfile.Profile()
        c = time.process_time()
        prof.enable()
        for one in points(run.trace)[::6]:
            rehearsed.play(Faults(one))
        prof.disable()
        n = len(points(run.trace)[::6])
        print(n, "runs", (time.process_time() - c) / n)
        pstats.Stats(prof).sort_stats("cumtime").print_stats(75)
