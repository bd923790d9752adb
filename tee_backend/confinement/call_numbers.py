"""Numbers of system calls on x86-64 and arm64.

Those of arm64 are of the kernel's generic table (`include/uapi/asm-generic/unistd.h`), which arm64
uses. Its calls on paths have a folder as their first argument; it never had the older calls. From
424 on, both machines have the same numbers.
"""

COLUMNS = {"x86_64": 0, "aarch64": 1}
"""For each machine its column in `NUMBERS`."""

_TABLE = """
read 0 63
write 1 64
open 2 -
close 3 57
stat 4 -
fstat 5 80
lstat 6 -
poll 7 -
lseek 8 62
mmap 9 222
mprotect 10 226
munmap 11 215
brk 12 214
rt_sigaction 13 134
rt_sigprocmask 14 135
rt_sigreturn 15 139
ioctl 16 29
pread64 17 67
pwrite64 18 68
readv 19 65
writev 20 66
access 21 -
sched_yield 24 124
mremap 25 216
madvise 28 233
dup 32 23
dup2 33 -
nanosleep 35 101
getpid 39 172
sendto 44 206
recvfrom 45 207
sendmsg 46 211
recvmsg 47 212
getsockname 51 204
getsockopt 55 209
clone 56 220
exit 60 93
uname 63 160
fcntl 72 25
fsync 74 82
fdatasync 75 83
ftruncate 77 46
getcwd 79 17
chdir 80 49
unlink 87 -
readlink 89 -
chmod 90 -
fchmod 91 52
fchown 93 55
gettimeofday 96 169
getrlimit 97 163
getrusage 98 165
sysinfo 99 179
getuid 102 174
getgid 104 176
geteuid 107 175
getegid 108 177
getppid 110 173
setsid 112 157
setgroups 116 159
setresuid 117 147
setresgid 119 149
sigaltstack 131 132
getpriority 140 141
setpriority 141 140
prctl 157 167
setrlimit 160 164
gettid 186 178
tkill 200 130
time 201 -
futex 202 98
sched_getaffinity 204 123
getdents64 217 61
restart_syscall 219 128
fadvise64 221 223
clock_gettime 228 113
clock_getres 229 114
clock_nanosleep 230 115
exit_group 231 94
epoll_wait 232 -
epoll_ctl 233 21
tgkill 234 131
openat 257 56
mkdirat 258 34
fchownat 260 54
newfstatat 262 79
unlinkat 263 35
renameat 264 38
linkat 265 37
symlinkat 266 36
readlinkat 267 78
fchmodat 268 53
faccessat 269 48
ppoll 271 73
set_robust_list 273 99
utimensat 280 88
epoll_pwait 281 22
eventfd2 290 19
epoll_create1 291 20
dup3 292 24
preadv 295 69
pwritev 296 70
prlimit64 302 261
renameat2 316 276
seccomp 317 277
getrandom 318 278
membarrier 324 283
preadv2 327 286
pwritev2 328 287
statx 332 291
rseq 334 293
openat2 437 437
faccessat2 439 439
landlock_create_ruleset 444 444
landlock_add_rule 445 445
landlock_restrict_self 446 446
fchmodat2 452 452
"""
"""In each line: the name of a call, its number on x86-64, and on arm64 the number, or - if none."""


def _numbers() -> dict[str, tuple[int, int | None]]:
    numbers = dict[str, tuple[int, int | None]]()
    for line in _TABLE.strip().splitlines():
        name, x86_64, arm64 = line.split()
        numbers[name] = int(x86_64), None if arm64 == "-" else int(arm64)
    return numbers


NUMBERS = _numbers()
