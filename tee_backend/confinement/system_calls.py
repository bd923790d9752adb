"""Seccomp filters for child processes (RN180 to RN183).

The maintained bindings of libseccomp need a compiler or that library on the machine, and
`pyseccomp` has had no release since 2021. So the filter is assembled here.

The tables list the refused calls. A list of allowed calls would be stronger. But it would depend on
the versions of Python and the C library: a child would end once either uses another call. Calls
that need a capability are not listed, because no child has one. A resource limit refuses threads
and processes (RN24), because wasmtime handles its error. `stat` and `readlink` still work on paths,
but no path can be opened.
"""

import ctypes
import os
import struct
from functools import cache

UNFILTERED = 78
"""Exit status of a process that could not install a filter."""

ALWAYS = """
socket 41 198
connect 42 203
bind 49 200
listen 50 201
accept 43 202
accept4 288 242
io_uring_setup 425 425
io_uring_enter 426 426
io_uring_register 427 427
execve 59 221
execveat 322 281
ptrace 101 117
kcmp 312 272
process_vm_readv 310 270
process_vm_writev 311 271
process_madvise 440 440
process_mrelease 448 448
pidfd_open 434 434
pidfd_getfd 438 438
pidfd_send_signal 424 424
bpf 321 280
perf_event_open 298 241
userfaultfd 323 282
keyctl 250 219
add_key 248 217
request_key 249 218
unshare 272 97
setns 308 268
name_to_handle_at 303 264
open_by_handle_at 304 265
mount 165 40
fsopen 430 430
fspick 433 433
open_tree 428 428
open_tree_attr 467 467
shmget 29 194
shmat 30 196
shmctl 31 195
semget 64 190
semctl 66 191
semop 65 193
semtimedop 220 192
msgget 68 186
msgctl 71 187
msgsnd 69 189
msgrcv 70 188
mq_open 240 180
mq_unlink 241 181
"""
"""Calls that are refused from the start: name, number on x86-64, number on arm64."""

ONCE_READY = """
open 2 -
openat 257 56
openat2 437 437
creat 85 -
memfd_create 319 279
memfd_secret 447 447
socketpair 53 199
sendmsg 46 211
sendmmsg 307 269
fcntl 72 25
ioctl 16 29
prctl 157 167
inotify_init 253 -
inotify_init1 294 26
fanotify_init 300 262
kill 62 129
tkill 200 130
rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240
setpriority 141 140
ioprio_set 251 30
sched_setaffinity 203 122
sched_setattr 314 274
sched_setparam 142 118
sched_setscheduler 144 119
migrate_pages 256 238
move_pages 279 239
unlink 87 -
unlinkat 263 35
rmdir 84 -
rename 82 -
renameat 264 38
renameat2 316 276
link 86 -
linkat 265 37
symlink 88 -
symlinkat 266 36
mkdir 83 -
mkdirat 258 34
mknod 133 -
mknodat 259 33
truncate 76 45
chmod 90 -
fchmodat 268 53
fchmodat2 452 452
chown 92 -
lchown 94 -
fchownat 260 54
utime 132 -
utimes 235 -
futimesat 261 -
utimensat 280 88
setxattr 188 5
lsetxattr 189 6
setxattrat 463 463
removexattr 197 14
lremovexattr 198 15
removexattrat 466 466
file_setattr 469 469
tgkill 234 131 0 21 {process}
prlimit64 302 261 0 21 0
"""
"""Calls that are also refused once a child is ready.

Further columns state when a call stays allowed: the number of an argument, 21 if it has to be equal
or 69 if it has to have a bit, and the value. `abort` signals its own process, and a child sets the
limits of a run for itself.
"""
_OF_FILES = {"openat", "openat2", "unlinkat", "renameat", "renameat2", "mkdirat", "fcntl"}
ONCE_READY_FOR_TASK = (
    "\n".join(line for line in ONCE_READY.splitlines() if line.partition(" ")[0] not in _OF_FILES)
    + """
fcntl 72 25 1 21 3
clone 56 220 0 69 65536
clone3 435 435
fork 57 -
vfork 58 -
"""
)
"""The same for the child of a task (TG5).

Landlock says which files it reaches (TG4). `fcntl` may only read the flags of a file, which listing
a folder needs. `clone` may only start a thread.
"""

_MACHINES = {"x86_64": (0xC000003E, 0, 317), "aarch64": (0xC00000B7, 1, 277)}
"""For each machine: its AUDIT_ARCH, its column in the tables, and the number of `seccomp`."""
_NEVER = 512
"""First number that is no call on either machine.

Kernels before 5.4 also accept some calls of x32, such as `execve`, under numbers from 512 on.
"""
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # refused calls fail with EPERM
_NO_SUCH_CALL = 0x00050026
"""Fail with ENOSYS: a C library then uses `clone`, whose flags a filter can read."""
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_ANY_PROCESS = 0x7ABCDEF1
"""Stands for a process's own id in a prepared filter; Linux gives no process such a high id."""
_INSTRUCTION = struct.Struct("=HBBI")
_libc = ctypes.CDLL(None)
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_char_p)


def program(calls: str, machine: str) -> bytes:
    """Assemble a BPF program that refuses the listed system calls.

    Raises KeyError for an unsupported machine.

    An instruction is an operation, the number of instructions to skip if a comparison is true, the
    number to skip if it is false, and an operand.
    """
    architecture, column, _ = _MACHINES[machine]
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        # RN182: `int 0x80` reaches the numbers of i386 from a process of x86-64
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _NEVER),  # RN182: the same calls under other numbers
        (_RETURN, 0, 0, _REFUSE),
    ]
    for line in calls.strip().splitlines():
        name, *numbers = line.split()
        if numbers[column] == "-":  # arm64 never had it
            continue
        block = [(_RETURN, 0, 0, _NO_SUCH_CALL if name == "clone3" else _REFUSE)]
        if len(numbers) > 2:
            index, compare, value = map(int, numbers[2:])
            unless = (_LOAD, 0, 0, _FIRST_ARGUMENT_AT + 8 * index), (compare, 1, 0, value)
            block = [*unless, *block, (_LOAD, 0, 0, _NUMBER_AT)]
        code += [(_EQUAL, 0, len(block), int(numbers[column])), *block]
    return b"".join(_INSTRUCTION.pack(*each) for each in [*code, (_RETURN, 0, 0, _ALLOW)])


@cache
def prepare_filter(calls: str) -> bytes:
    """Return the filter for a process whose id is `_ANY_PROCESS`.

    The template prepares the filter of its children, because assembling it takes 0.5 ms.
    """
    return program(calls.format(process=_ANY_PROCESS), os.uname().machine)


def refuse(calls: str) -> None:
    """Permanently block the listed system calls.

    The filter applies to all threads of this process and to its future children. Call this after
    `no_new_privs` is set. If the filter cannot be installed, the process exits (RN183).
    """
    machine = os.uname().machine
    if machine not in _MACHINES:  # RN183
        os._exit(UNFILTERED)
    any_process, process = struct.pack("=I", _ANY_PROCESS), struct.pack("=I", os.getpid())
    code = ctypes.create_string_buffer(prepare_filter(calls).replace(any_process, process))
    described = struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(code))
    # RN183: a result above 0 is the id of a thread for which it failed.
    if _libc.syscall(_MACHINES[machine][2], _SET_MODE_FILTER, _ALL_THREADS, described):
        os._exit(UNFILTERED)
