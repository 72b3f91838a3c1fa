"""Order: takes orders, holds their stock, takes payment, ships.

Owns orders, their lines with the price they were quoted, their history, shipping details and
payment records. Asks product in real time to hold, commit, ship and release stock. Tells of every
change of an order's status. Hears of product what wakes, ends or prices orders, and of user whom
to forget. Never holds stock numbers, except a replica; never a card number.
"""
