-- While a service that some actions ask does not answer, the other actions are looked up one by one.
CREATE INDEX deferred_by_action ON deferred (action, due_ms);
