# Commands of gdb; a line `#= TEXT` is expected in what it says, behind what was expected before.
set pagination off
set confirm off
set width 0
print $eip != 0
#= $1 = 1
break factorial
continue
#= Breakpoint 1, factorial (n=5)
continue
#= Breakpoint 1, factorial (n=4)
backtrace
#= #0  factorial (n=4)
#= #1
#= factorial (n=5)
#= main ()
print $esp
delete
finish
#= Value returned is $3 = 24
watch scale
continue
#= Hardware watchpoint 2: scale
#= Old value = 2.5
#= New value = 5
delete
print hits
#= = 120
set var hits = 1000
print hits
#= = 1000
continue
#= received signal SIGUSR1
break handler
continue
#= handler (signal=10)
delete
tbreak work
continue
#= work (argument=
info threads
#= Thread
#= Thread
stepi
x/i $eip
#= => 0x
catch syscall exit_group
catch syscall write
continue
#= (call to syscall write)
continue
#= (returned from syscall write)
monitor maps
#= debugged
continue
#= received signal SIGSEGV
info registers eflags mxcsr fctrl
#= eflags
#= mxcsr
#= fctrl
continue
#= Program terminated with signal SIGSEGV
