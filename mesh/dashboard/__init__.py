"""What runs, on one screen.

`frame` holds everything that one screen shows and `feed` gathers it; `ui` is what the person has
chosen and `keys` how a key changes that; `view` draws both; `run` has the terminal and the loop.
The mesh needs nothing of this: whoever kills it, kills a picture.
"""
