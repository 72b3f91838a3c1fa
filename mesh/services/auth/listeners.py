"""What auth hears: nothing yet. Suspension and erasure of users will end their sessions here."""
