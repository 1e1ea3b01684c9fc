"""A synthetic RGB-thermal world: its plan, its objects and its places."""
