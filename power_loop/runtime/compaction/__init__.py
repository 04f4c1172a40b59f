"""How a view that has grown too large becomes smaller.

base       the protocol: what a strategy is told, and the plan that it gives
cuts       where a view may be cut, and what stays in any case
contract   what must hold of a view that has been made smaller
keeper     asks the strategies, holds them to the contract, and degrades
results    old large results of tools become pointers: the cheapest
summary    the model says what the older part had said
trim       the older part is left out, by rule
native     the provider compacts by itself
outputs    long outputs of tools that ask for it, summarised as they come
rendering  a transcript as text, for a model to read as data
"""
