"""Product: what there is, what it costs and how much is free.

Owns product information, prices, stock, holds and the stock ledger. Is asked for the catalogue,
for availability in real time and, by order alone, to hold, commit, ship and release stock. Tells
of every change of stock, one event for each ledger row, and of the catalogue. Hears nothing. Never holds who the buyer is.
"""
