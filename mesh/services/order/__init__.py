"""Order: takes orders, holds their stock, takes payment.

Owns orders, their lines with the price they were quoted, their history, shipping details and
payment records. Asks product in real time to hold, commit and release stock. Tells of every
change of an order's status. Hears `product.stock_changed`, by which backorders wake, and
`product.hold_expired`. Never holds stock numbers, except a replica; never a card number.
"""
