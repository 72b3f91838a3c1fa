-- Of all holds there ever were few are open: whoever asks who holds a product looks through those.
CREATE INDEX holds_open ON holds (order_id) WHERE state IN ('held', 'committed');
