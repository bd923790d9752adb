// Gives a process the same time, random numbers and file metadata in every run, so that what it builds has the same bytes.
// For x86-64 Linux:
//
//     cc -shared -fPIC -O1 -o fixed_inputs.so fixed_inputs.c
//     TOKIO_WORKER_THREADS=1 LD_PRELOAD=./fixed_inputs.so python …
//
// The C library's functions are replaced. Code that calls the kernel itself is caught by a seccomp filter: the call raises
// SIGSYS, and the handler makes the call and changes its result. A process that this one executes would inherit the filter
// without the handler, so the first program has to be the one that builds.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/stat.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define WALL_S 1580601600 // the time that hatchling gives to files of archives
#define MONOTONIC_S 1000
#define MARK 0x5ea15aceL // sixth argument of the handler's own calls, which the filter allows

struct kernel_stat {
  unsigned long device, inode, links;
  unsigned mode, user, group, padding;
  unsigned long special;
  long size, block_size, blocks, times[6], unused[3];
};

static long call(long number, long a, long b, long c, long d, long e) {
  long result;
  register long fourth __asm__("r10") = d;
  register long fifth __asm__("r8") = e;
  register long sixth __asm__("r9") = MARK;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                   : "rcx", "r11", "memory");
  return result;
}

static void fill(void *bytes, size_t size) {
  for (size_t at = 0; at < size; at++) ((unsigned char *)bytes)[at] = (unsigned char)(at * 37 + 1);
}

ssize_t getrandom(void *bytes, size_t size, unsigned flags) {
  (void)flags;
  fill(bytes, size);
  return (ssize_t)size;
}

int getentropy(void *bytes, size_t size) {
  fill(bytes, size);
  return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  int is_cpu = clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
  now->tv_sec = is_wall ? WALL_S : is_cpu ? 0 : MONOTONIC_S;
  now->tv_nsec = 0;
  return 0;
}

static void answer(int signal, siginfo_t *about, void *context) {
  (void)signal;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  long number = about->si_syscall;
  if (number == SYS_getrandom) {
    fill((void *)registers[REG_RDI], registers[REG_RSI]);
    registers[REG_RAX] = registers[REG_RSI];
    return;
  }
  if (number == SYS_clock_gettime) {
    registers[REG_RAX] = clock_gettime(registers[REG_RDI], (void *)registers[REG_RSI]);
    return;
  }
  long result = call(number, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX], registers[REG_R10], registers[REG_R8]);
  if (result == 0 && number == SYS_statx) {
    struct statx *found = (void *)registers[REG_R8];
    found->stx_ino = 1; // WASI makes a hash of device and number
    found->stx_dev_major = 0;
    found->stx_dev_minor = 1;
    memset(&found->stx_atime, 0, 4 * sizeof found->stx_atime);
    found->stx_atime.tv_sec = found->stx_ctime.tv_sec = found->stx_mtime.tv_sec = WALL_S;
  } else if (result == 0) {
    struct kernel_stat *found = (void *)(number == SYS_fstat ? registers[REG_RSI] : registers[REG_RDX]);
    for (int at = 0; at < 6; at++) found->times[at] = at % 2 ? 0 : WALL_S;
  }
  registers[REG_RAX] = result;
}

#define TRAP(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

__attribute__((constructor)) static void start(int count, char **arguments, char **environment) {
  (void)count;
  (void)arguments;
  while (*environment) environment++;
  // Without the kernel's functions in this process, each reading of a clock is a call.
  for (unsigned long *entry = (unsigned long *)(environment + 1); *entry; entry += 2)
    if (*entry == AT_SYSINFO_EHDR) *entry = AT_IGNORE;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSYS, &action, NULL);
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)MARK, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      TRAP(SYS_getrandom), TRAP(SYS_clock_gettime), TRAP(SYS_statx), TRAP(SYS_newfstatat),
      TRAP(SYS_fstat), TRAP(SYS_stat), TRAP(SYS_lstat),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) _exit(99);
}
