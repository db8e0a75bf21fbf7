"""What a training shows: a short line for each logged step, a figure of its curves, and no warning that says nothing.

    lines     what was logged, in a line of less than 80 columns
    progress  prints those lines as a training goes on, from one rank alone
    curves    loss, margin and reward accuracy in one figure
    quiet     the warnings of others that are left out, by name

Lines go to stdout. Bars, which are written over and over, are for a terminal alone.
"""
