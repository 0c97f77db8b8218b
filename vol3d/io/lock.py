"""Who is at work in a folder: locks of the system, which end with the process that holds them.

Of those who share the work on a folder, each holds two files in it: the plan, together with all others of
the same plan, and its shard, alone. Work that is not shared is the one part of its plan.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from vol3d.distributed.shards import ALL
from vol3d.errors import ConfigError

log = logging.getLogger(__name__)
NAME = ".vol3d-lock"
"""How the files begin; hidden ones do not count as content of a folder."""
LOOK_AGAIN_S = 0.2
BRIEFLY_S = 10.0
"""How long it takes at most to come or to go."""
CALLED_BACK_S = 300.0
"""How long a job that its queue called back waits for its former self to end, or for the server of a
network file system to give up a machine that died, which NFS does after a minute and a half."""
WITHOUT = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a file system without locks answers."""
ONLY_HERE = re.compile(r"\b(nolock|localflock|local_lock=(all|flock))\b")
"""Options of a mount with which other machines do not see a lock."""


@dataclass(frozen=True)
class Holder:
    """A process that is at work; `job` is that of Slurm, which called it back `restarts` times."""

    host: str
    process: int
    shard: str
    since: str
    job: str = ""
    restarts: int = 0

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.process} on {self.host}{job}, since {self.since}"


def this_one(shard: str, told: Mapping[str, str] = os.environ) -> Holder:
    """This process, by what its queue says in the environment."""
    job, restarts = told.get("SLURM_JOB_ID", ""), int(told.get("SLURM_RESTART_COUNT", "0"))
    now = time.strftime("%Y-%m-%d %H:%M")
    return Holder(platform.node(), os.getpid(), shard, now, job, restarts)


@contextmanager
def at_work(folder: Path, plan: object = None, shard: str = ALL) -> Iterator[None]:
    """Work in a folder, which is made if it is not there, while nobody else may.

    Args:
        folder: where files are written.
        plan: what is to be made, as JSON can tell it; others of the same plan may make other shards.
        shard: what of it this process makes.

    Raises:
        ConfigError: someone else is at work on another plan, or on this shard; or nothing can be
            written there.
    """
    me = this_one(shard)
    told = json.dumps([plan, shard.partition("/")[2]], sort_keys=True, default=str)
    digest = hashlib.sha256(told.encode()).hexdigest()
    with ExitStack() as held:
        why = ""
        try:
            held.enter_context(made(folder))
            wait_and_enter(folder, digest, me, held)
        except OSError as error:
            if error.errno not in WITHOUT:
                raise ConfigError(
                    f"{folder}: cannot be written ({error.strerror}); name another folder"
                ) from None
            why = "has no locks"
        else:
            _, options = mount_of(folder)
            why = "keeps locks to this machine" if ONLY_HERE.search(options) else ""
        if why:
            log.warning(
                "warning: %s: its file system %s, so a second job on this folder is not noticed "
                "where it runs on another machine; start one at a time",
                *(folder, why),
            )
        yield


def wait_and_enter(folder: Path, digest: str, me: Holder, held: ExitStack) -> None:
    """Take the plan and the shard, as soon as whoever is in the way has gone, if that is soon."""
    began, is_told = time.monotonic(), False
    while not enter(folder, digest, me, held):
        found = in_the_way(folder)
        is_me = found is not None and found.job == me.job != "" and found.restarts < me.restarts
        patience = CALLED_BACK_S if is_me else 0 if found else BRIEFLY_S
        if time.monotonic() - began >= patience:
            refuse(folder, found, me)
        if is_me and not is_told:
            log.info("%s: waiting for %s, which is this job before its restart", folder, found)
            is_told = True
        time.sleep(LOOK_AGAIN_S)


def refuse(folder: Path, found: Holder | None, me: Holder) -> NoReturn:
    """Say who is in the way."""
    what = f"on shard {found.shard} " if found and found.shard != ALL else ""
    gone = f" (if that machine is gone, remove {NAME}* there)"
    raise ConfigError(
        f"{folder}: {found or 'another process'} is at work {what}here; wait for it or stop it, "
        f"or name another folder{gone if found and found.host != me.host else ''}"
    )


def enter(folder: Path, digest: str, me: Holder, held: ExitStack) -> bool:
    """Take the plan and the shard, if nobody is in the way; all or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as mine, suppress(FileNotFoundError):  # whoever made the folder took it away
        plan = opened(folder / NAME, mine)
        if taken(plan, fcntl.LOCK_EX):  # nobody is here: it is ours to say what is made
            os.pwrite(plan, digest.encode(), 0)
        fcntl.flock(plan, fcntl.LOCK_SH)  # whoever has it alone is about to share it
        mine.callback(leave, folder / NAME, plan)
        if not is_there(folder / NAME, plan) or os.pread(plan, 64, 0) != digest.encode():
            return False
        path = folder / f"{NAME}-{me.shard.replace('/', '-of-')}"
        shard = opened(path, mine)
        if not taken(shard, fcntl.LOCK_EX) or not is_there(path, shard):
            return False
        os.ftruncate(shard, 0)
        os.pwrite(shard, json.dumps(asdict(me)).encode(), 0)
        mine.callback(leave, path, shard)
        held.push(mine.pop_all())
        return True
    return False


def opened(path: Path, held: ExitStack) -> int:
    """A file to lock; closed, and with that no longer locked, at the end of what is held."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    held.callback(os.close, file)
    return file


def taken(file: int, how: int) -> bool:
    """Lock a file, unless another process is in the way."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # SMB calls it the latter
        return False
    return True


def is_there(path: Path, file: int) -> bool:
    """Whether a file has not been removed since it was opened."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def leave(path: Path, file: int) -> None:
    """Remove a locked file, if nobody else has it."""
    with suppress(OSError):
        if taken(file, fcntl.LOCK_EX) and is_there(path, file):
            path.unlink()


def in_the_way(folder: Path) -> Holder | None:
    """A process that holds a shard; None where all are just coming or going."""
    for path in sorted(folder.glob(f"{NAME}-*")):
        with suppress(OSError), path.open() as file:
            if not taken(file.fileno(), fcntl.LOCK_SH):
                with suppress(ValueError, TypeError):  # it is just being written
                    return Holder(**json.loads(file.read()))
    return None


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """A folder is to be made; of what had to be made for it, all that stays empty goes again."""
    new = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        yield
    finally:
        for path in new:
            with suppress(OSError):
                path.rmdir()


def mount_of(folder: Path) -> tuple[str, str]:
    """Kind and options of the file system that a folder lies on; empty if Linux does not tell them."""
    with suppress(OSError, StopIteration):
        mounts = [m.split() for m in Path("/proc/mounts").read_text().splitlines()]
        told = {Path(at): (kind, options) for _, at, kind, options, *_ in mounts}
        here = folder.resolve()
        return next(told[p] for p in (here, *here.parents) if p in told)
    return "", ""
