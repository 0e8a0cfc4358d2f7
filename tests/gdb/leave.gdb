# gdb goes, and the program runs on to its end.
set pagination off
set confirm off
break factorial
continue
#= Breakpoint 1, factorial (n=5)
detach
#= detached
