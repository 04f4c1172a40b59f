"""What can be done with a session's log beside going on with it.

compare.py   where two records differ first
replay.py    a stored run once more, with what the model and the tools had given
playing.py   the pipeline's ports for that; script.py what is still to come of the run, turns.py
             whose turn it is
outcomes.py  recorded outcomes, as the pipeline is given them
branch.py    what a fork and a rewind write
difference.py  where two sessions part
explaining.py  why a run ended as it did; explanation.py what is said of that, chain.py the steps,
             endings.py the rule an outcome, limits.py what was left, words.py the words of others
usage.py     what a session has used, and what that costs
archive.py   a session as a file; unpacking.py reads it
"""
