"""What runs inside the sandbox: the standard library only, nothing of codesynth beside it.

A verdict that the judged code cannot forge needs two processes for each row, forked from one warm
interpreter (``runner``), each alone in its own namespaces. Between them are two pipes and a /tmp,
where the judge follows no links and runs no programs:

  judge    holds the tests, runs them and decides; never runs a byte of the code.
  guest    holds the code; answers calls with values. It knows neither the tests nor the expected
           values, has no way to the verdict's pipe, and sees no other process.

Values cross by value where they can (``wire``), so every comparison a test makes is made in the
judge, between plain values of the judge's own. What cannot cross stays in the guest behind a
``remote`` stand-in: it can be called, iterated, printed, but an object whose class no test names
cannot be compared, added or searched: there ``==`` would be the code's own word. All the code can
do about its verdict is to return right values.

For an ordinary user the whole sandbox is a user namespace. Root's is not, since who is root inside
is root to the kernel's settings: there judge and guest become users that own nothing.

Doctests in an instruction are the judge's to run, like a test column. Doctests in the code itself
are examples the code wrote: they run in the guest and only their output is compared here.
"""
