# gdb is told nothing about files: the program, its libraries and /proc come from the guest.
set pagination off
set confirm off
set width 0
info proc
#= exe = '
#= /debugged'
info proc mappings
#= [vdso]
#= [stack]
break main
#= debugged.c
continue
#= Breakpoint 1, main ()
print factorial(5)
#= = 120
info auxv
#= AT_SYSINFO_EHDR
print $xmm0.v4_float[1] = 1.5
print $xmm0.v4_float[1]
#= = 1.5
print $st0 = 2.5
print $st0
#= = 2.5
info float
#= Control Word:        0x037f
set var $eflags = $eflags | 1
print $eflags
#= CF
rwatch scale
awatch hits
tbreak handler
continue
#= Hardware access (read/write) watchpoint
#= New value = 120
continue
#= Hardware read watchpoint
#= Value = 2.5
delete
catch syscall tgkill
continue
#= (call to syscall tgkill)
print $orig_eax
#= = 270
print $eax
#= = -38
backtrace
#= in __kernel_vsyscall ()
#= in raise ()
#= in main ()
# No such call is made.
set var $orig_eax = -1
set var $eax = 0
delete
tbreak pthread_create
continue
#= pthread_create
signal SIGUSR1
#= received signal SIGSEGV
print hits
#= = 132
generate-core-file core
#= Saved corefile core
kill
#= killed]
