"""Credentials: the user and group ids of a task (credentials(7)), and what they allow.

Whoever has effective uid 0 has every capability: a program that gives uid 0 up in all its ids cannot come back, and one
that keeps it in another can (capabilities(7), "Effect of user ID changes on capabilities").
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, EPERM, KernelError
from sandbox.records import dataclass, replace

NO_ID = 0xFFFFFFFF
"""-1: in the calls that set several ids it leaves one alone; nobody has it."""


@dataclass(slots=True, eq=False)
class User:
    """What all tasks of one real user id have in common (``user_struct``)."""

    uid: int
    sigpending: int = 0
    """Signals that are queued for them, and their timers of timer_create(2): what RLIMIT_SIGPENDING limits."""


class Users(dict[int, User]):
    """By user id; whoever is asked for is there."""

    def __missing__(self, uid: int) -> User:
        user = self[uid] = User(uid)
        return user


@dataclass(frozen=True, slots=True)
class Ids:
    """Real, effective, saved and file system id: of a user, or of a group."""

    real: int = 0
    effective: int = 0
    saved: int = 0
    fs: int = 0

    def has(self, number: int) -> bool:
        """It is the real, the effective or the saved one."""
        return number in (self.real, self.effective, self.saved)

    def set(self, number: int, capable: bool) -> Ids:
        """setuid(2).  Raises KernelError(EINVAL, EPERM)."""
        if number == NO_ID:
            raise KernelError(EINVAL)
        if capable:
            return Ids(number, number, number, number)
        if number not in (self.real, self.saved):
            raise KernelError(EPERM)
        return replace(self, effective=number, fs=number)

    def set_re(self, real: int, effective: int, capable: bool) -> Ids:
        """setreuid(2): the saved id follows when the real one is set or the effective one differs from it.

        Raises KernelError(EPERM).
        """
        if not capable and (
            real not in (NO_ID, self.real, self.effective) or not (effective == NO_ID or self.has(effective))
        ):
            raise KernelError(EPERM)
        now = self._with(real, effective, NO_ID)
        follows = real != NO_ID or effective not in (NO_ID, self.real)
        return replace(now, saved=now.effective) if follows else now

    def set_res(self, real: int, effective: int, saved: int, capable: bool) -> Ids:
        """setresuid(2): any of the three to any of the three.  Raises KernelError(EPERM)."""
        if not capable and not all(each == NO_ID or self.has(each) for each in (real, effective, saved)):
            raise KernelError(EPERM)
        return self._with(real, effective, saved)

    def set_fs(self, number: int, capable: bool) -> Ids:
        """setfsuid(2), which does not say when it refuses."""
        allowed = number != NO_ID and (capable or self.has(number) or number == self.fs)
        return replace(self, fs=number) if allowed else self

    def exec(self, effective: int | None) -> Ids:
        """execve(2), of a file that gives its owner's id or of another (None)."""
        number = self.effective if effective is None else effective
        return Ids(self.real, number, number, number)

    def _with(self, real: int, effective: int, saved: int) -> Ids:
        effective = self.effective if effective == NO_ID else effective
        return Ids(self.real if real == NO_ID else real, effective, self.saved if saved == NO_ID else saved, effective)


@dataclass(frozen=True, slots=True)
class Cred:
    """The ids of one task, and its supplementary groups in rising order; a new one with every change."""

    uid: Ids = Ids()
    gid: Ids = Ids()
    groups: tuple[int, ...] = ()

    @property
    def fsuid(self) -> int:
        """Whose files are its own."""
        return self.uid.fs

    @property
    def fsgid(self) -> int:
        """The group of what it makes."""
        return self.gid.fs

    @property
    def real(self) -> Cred:
        """For access(2), which asks for the user behind a set-user-ID program."""
        return replace(self, uid=replace(self.uid, fs=self.uid.real), gid=replace(self.gid, fs=self.gid.real))

    @property
    def capable(self) -> bool:
        """It has the capabilities of root."""
        return not self.uid.effective

    def exec(self, mode: int, uid: int, gid: int) -> Cred:
        """After execve(2) of a file with this mode and owner: S_ISUID, and S_ISGID beside an x bit, count."""
        owner = uid if mode & 0o4000 else None
        group = gid if mode & 0o2010 == 0o2010 else None
        return replace(self, uid=self.uid.exec(owner), gid=self.gid.exec(group))

    @property
    def secure(self) -> bool:
        """AT_SECURE (getauxval(3)): the program runs with other ids than its user's."""
        return self.uid.effective != self.uid.real or self.gid.effective != self.gid.real

    def may_signal(self, target: Cred) -> bool:
        """kill(2): the sender's real or effective uid is the target's real or saved one, or the sender is root."""
        mine, theirs = self.uid, target.uid
        return self.capable or bool({mine.real, mine.effective} & {theirs.real, theirs.saved})

    def may_renice(self, target: Cred) -> bool:
        """setpriority(2): the caller's effective uid is the target's real or effective one, or the caller is root."""
        return self.capable or self.uid.effective in (target.uid.real, target.uid.effective)


ROOT = Cred()
