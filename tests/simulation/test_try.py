import asyncio, time, logging
import pytest
from tests import factories as make
from tests.simulation.world import World, Plan, running, Kept
from vms.models import VM
from cloud.models import Host, Action

pytestmark = pytest.mark.django_db

def test_first(place, tmp_path):
    import hashlib
    world = World(place, Plan())
    img = place.parent/"image"; img.write_bytes(b"disk"*1024)
    real = time.perf_counter
    with running(world) as runner:
        async def story():
            for n in world.machines:
                Host.objects.create(name=n, location=make.location())
            make.image(url=f"file://{img}", sha256=hashlib.sha256(img.read_bytes()).hexdigest(), bytes=4096, format="raw")
            make.pool(); make.pool("2001:db8::/56")
            world.start()
            await asyncio.sleep(10)
            print(Host.objects.values())
            world.effects.begin(world.effects.judge)
            t=real()
            vm = world.ask(lambda: make.ordered().vm)
            await asyncio.sleep(10)
            print("took", real()-t)
            vm.refresh_from_db()
            print(vm.status, vm.converged, vm.failure_message, world.complaints)
            print(Action.objects.values_list("command","status"))
            for i,x in enumerate(world.effects.trace): print(i,x)
        runner.run(story())
    assert 0
