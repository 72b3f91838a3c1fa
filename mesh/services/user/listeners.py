"""What user hears: nothing yet. The history view will hear `order.status_changed` here."""
