import os
import time

import pytest

from tests.simulation.faults import Faults, points
from tests.simulation.runs import CALM, Studio
from tests.simulation.scenes import BY_NAME, SCENES

pytestmark = pytest.mark.django_db


def test_all(place):
    studio = Studio(place)
    names = os.environ.get("SCENES", "").split() or [s.name for s in SCENES]
    mode = os.environ.get("MODE", "none")
    stride = int(os.environ.get("STRIDE", "1"))
    bad = 0
    for name in names:
        t = time.process_time()
        try:
            with studio.scene(BY_NAME[name]) as rehearsed:
                t1 = time.process_time()
                run = rehearsed.play(CALM)
                print(
                    f"{name}: setup {t1 - t:.2f} run {time.process_time() - t1:.2f} effects {len(run.trace)} settled {run.settled:.0f} {run.wrong}",
                    flush=True,
                )
                if mode == "none":
                    continue
                if mode == "trace":
                    for i, x in enumerate(run.trace):
                        print(i, x)
                plans = {
                    "kill": points(run.trace),
                    "broker": [f"broker:{n}" for n in range(len(run.trace))],
                    "seed": [f"seed:{n}" for n in range(int(os.environ.get("SEEDS", "20")))],
                }.get(mode, [mode])
                t2 = time.process_time()
                n = 0
                longest = 0
                for one in plans[::stride]:
                    r = rehearsed.play(Faults(one))
                    n += 1
                    longest = max(longest, r.settled)
                    if r.wrong:
                        print(r, flush=True)
                        bad += 1
                        if bad > int(os.environ.get("BAD", "12")):
                            return
                print(
                    f"   {n} runs, {(time.process_time() - t2) / n * 1000:.0f} ms each, longest settle {longest:.0f}",
                    flush=True,
                )
        except Exception as e:
            import traceback

            print(name, "FAILED", repr(e)[:1500])
            traceback.print_exc(limit=-3)
