-- What is due is looked up action by action; an index less is kept at each deferral and each end of one.
DROP INDEX deferred_by_due;
