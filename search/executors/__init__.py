"""Where trials run: `search.executors.base` says what an executor is."""
