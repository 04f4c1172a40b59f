"""Limits that hold: what may be used, what has been, and what is set aside for calls under way.

    limits     Budget: what somebody allows
    amounts    what is counted, in whole units
    rates      what a call costs at worst
    accounts   one node: its limits, what is used and what is held
    claims     what a call needs, weighed against a node and all above it
    queue      who waits for what others have set aside
    meter      the tree: reserve, settle, spend
    shared     SharedBudget: one for several loops

Each imports those above it only.
"""
