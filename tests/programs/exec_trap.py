"""Namespaces in which the kernel refuses to run i386 programs itself.

An x86-64 kernel executes i386 files directly, so an emulator that hands its guest's execve to the
kernel looks as if it worked. Inside a Namespace made with a trap, every i386 file that reaches the
kernel's execve starts the trap instead (a binfmt_misc handler that only this user namespace has,
Linux 6.7 or newer).
"""

import ctypes
import os
import subprocess

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000

TRAP_SOURCE = r"""
#include <stdio.h>

int main(int argc, char **argv)
{
    fprintf(stderr, "execve of an i386 program reached the host's kernel: %s\n", argc > 1 ? argv[1] : "?");
    return 126;
}
"""

libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """Says why this machine cannot provide the namespace."""


def call(name, *arguments):
    """Calls a function of the C library that returns -1 with errno."""
    if getattr(libc, name)(*arguments) == -1:
        error = ctypes.get_errno()
        raise Unavailable(f"{name}: {os.strerror(error)}")


def build_trap(directory):
    """Compiles the trap, a static program of the host's own kind; returns its path."""
    trap = os.path.join(directory, "exec-trap")
    command = ["gcc", "-O1", "-static", "-x", "c", "-o", trap, "-"]
    result = subprocess.run(command, input=TRAP_SOURCE, capture_output=True, text=True)
    if result.returncode != 0:
        raise Unavailable(f"the trap does not build: {result.stderr.strip()}")
    return trap


def escape(data):
    return "".join(f"\\x{byte:02x}" for byte in data)


def registration(trap):
    """The binfmt_misc line for ELF files of 32 bits, little-endian, ET_EXEC or ET_DYN, EM_386."""
    magic = b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x03\x00"
    mask = b"\xff\xff\xff\xff\xff\xff\xff" + bytes(9) + b"\xfe\xff\xff\xff"
    return f":i386:M::{escape(magic)}:{escape(mask)}:{trap}:F"


class Namespace:
    """A user and mount namespace with its own binfmt_misc: empty, or with the trap registered.

    `place` is a directory to mount it on, seen in the namespace only.
    """

    def __init__(self, place, trap=None):
        os.makedirs(place, exist_ok=True)
        ready, go, done = os.pipe(), os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self.become(os.fsencode(place), trap, ready[1], go[0])
                os.write(done[1], b"ok")
                os.read(go[0], 1)
            except Unavailable as reason:
                os.write(done[1], str(reason).encode())
            finally:
                os._exit(0)
        for end in (ready[1], go[0], done[1]):
            os.close(end)
        try:
            self.set_up(child, ready[0], go[1], done[0])
        finally:
            for end in (ready[0], go[1], done[0]):
                os.close(end)
            os.waitpid(child, 0)

    def become(self, place, trap, ready, go):
        """Runs in the child, which then stands for the namespace until the parent holds it."""
        call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
        os.write(ready, b".")
        os.read(go, 1)
        call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        call("mount", b"binfmt_misc", place, b"binfmt_misc", 0, None)
        if trap:
            try:
                with open(os.path.join(place, b"register"), "w") as register:
                    register.write(registration(trap))
            except OSError as error:
                raise Unavailable(f"binfmt_misc does not take the handler: {error.strerror}") from error

    def set_up(self, child, ready, go, done):
        if os.read(ready, 1) == b".":
            # As root, all ids stay what they are; another user becomes root there, the only one.
            ids = "0 0 4294967295" if os.geteuid() == 0 else None
            if os.geteuid() != 0:
                with open(f"/proc/{child}/setgroups", "w") as file:
                    file.write("deny")
            for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
                with open(f"/proc/{child}/{kind}_map", "w") as file:
                    file.write(ids or f"0 {own} 1")
            os.write(go, b".")
        answer = os.read(done, 500).decode()
        if answer != "ok":
            raise Unavailable(answer or "the child that makes it ended early")
        self.user = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self.mount = os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        os.write(go, b".")

    def enter(self, directory):
        """Moves the calling process into the namespace and to `directory` in it."""
        call("setns", self.user, CLONE_NEWUSER)
        call("setns", self.mount, CLONE_NEWNS)
        os.chdir(directory)
