"""Product hears nothing: it owns what others react to."""
