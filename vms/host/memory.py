"""What a host remembers of a VM between two looks at it, and how steps change it. Pure."""

from __future__ import annotations

from msgspec import Struct, structs

from cloud.wire import WIRE_VERSION, StepReport, Version
from vms.spec import VmReport, VmSpec

# A QEMU that ends sooner than this after its start did not serve anybody.
QUICK_CRASH_SECONDS = 30.0
CRASHES_IN_A_ROW = 5
# After so many quick crashes it is started once in a while only.
CRASH_PAUSE_SECONDS = 60.0
# A guest that sent nothing for so long after its start is no longer listened for.
GUEST_PATIENCE_SECONDS = 180.0


def is_patient(since: float, now: float) -> bool:
    """Whether a guest that was started at `since` may still be waited for; Unix seconds.

    A clock that was set back ends it: nobody knows how long it has been.
    """
    return 0 <= now - since < GUEST_PATIENCE_SECONDS


class VmMemory(Struct, frozen=True, omit_defaults=True):
    """Stored as JSON; written only by the holder of the VM's converge lock.

    settled: the generation that the present QEMU serves. halted: the generation under which
    the guest switched itself off. pressed, pressed_since, pressed_at: the generation for which
    the power button was pressed, when it was first and last. reset_serial, reboot_serial: the
    last ones done. started_at: when QEMU was started, 0 if it was ended on purpose since;
    started_boot: in which boot of the host. crashes, crashed_at: quick ends in a row, and when
    the last was seen. told: the last report. provisioned: its disks and seed were seen. Times are
    Unix seconds.
    """

    seq: int = 0
    settled: int = 0
    halted: int = 0
    pressed: int = 0
    pressed_since: float = 0.0
    pressed_at: float = 0.0
    reset_serial: int = 0
    reboot_serial: int = 0
    started_at: float = 0.0
    started_boot: str = ""
    crashes: int = 0
    crashed_at: float = 0.0
    told: VmReport | None = None
    steps: tuple[StepReport, ...] = ()
    carried_out: int = 0
    guest_since: float = 0.0
    guest_frames: int = 0
    log_read: int = 0
    provisioned: bool = False
    version: Version = WIRE_VERSION

    def next_seq(self, now: float) -> int:
        """Of a report: larger than any before, even if what was remembered is lost."""
        return max(self.seq + 1, int(now * 1000))

    @classmethod
    def lost(cls, spec: VmSpec) -> VmMemory:
        """What is assumed where nothing can be read.

        Most can be seen anew. But every reset and reboot asked for counts as done: one too few is
        asked for again, and one too many costs a guest its work.
        """
        return cls(reset_serial=spec.reset_serial, reboot_serial=spec.reboot_serial)

    def starting(self, spec: VmSpec, boot_id: str, now: float) -> VmMemory:
        """Noted before QEMU starts, so that a start which nobody saw the end of counts."""
        return structs.replace(self.restarted(spec), started_at=now, started_boot=boot_id)

    def button_pressed(self, spec: VmSpec, now: float) -> VmMemory:
        again = self.pressed == spec.generation and self.pressed_since <= now
        since = self.pressed_since if again else now  # anew where a clock was set back
        return structs.replace(self, pressed=spec.generation, pressed_since=since, pressed_at=now)

    def restarted(self, spec: VmSpec) -> VmMemory:
        """A guest that begins anew has fulfilled every reset and reboot asked for so far."""
        return structs.replace(
            self,
            settled=spec.generation,
            reset_serial=spec.reset_serial,
            reboot_serial=spec.reboot_serial,
        )

    def awaiting_guest(self, spec: VmSpec, now: float, frames: int) -> VmMemory:
        """Its first frame ends the start that `spec` asked for; a later restart is no request's."""
        if self.carried_out == spec.generation:
            return self
        return structs.replace(self, guest_since=now, guest_frames=frames)

    def serving(self, spec: VmSpec) -> VmMemory:
        """A guest that runs as `spec` wants: if it goes off from now on, that is its own wish."""
        return structs.replace(self, settled=spec.generation)

    def absent(self, spec: VmSpec, boot_id: str, now: float) -> VmMemory:
        """QEMU is not there though it should be: count it if nobody ended it on purpose.

        A new generation, or a reboot of the host, begins a new count.
        """
        fresh = spec.generation != self.settled or self.started_boot != boot_id
        if fresh or not self.started_at:
            return structs.replace(self, started_at=0.0, crashes=0 if fresh else self.crashes)
        quick = 0 <= now - self.started_at < QUICK_CRASH_SECONDS
        crashes = self.crashes + 1 if quick else 1
        return structs.replace(self, started_at=0.0, crashes=crashes, crashed_at=now)

    def had_disks(self, spec: VmSpec) -> bool:
        """Whether its disks were made once, so that one that is not there is lost."""
        return self.provisioned or spec.provisioned or self.carried_out > 0

    def pausing(self, now: float) -> bool:
        """Whether it crashed so often that the next start has to wait."""
        recently = 0 <= now - self.crashed_at < CRASH_PAUSE_SECONDS
        return self.crashes >= CRASHES_IN_A_ROW and recently
