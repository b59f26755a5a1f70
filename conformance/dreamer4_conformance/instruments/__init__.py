"""How the suite calls an operation and reads its result, for the smoke calls, the checks and the signatures alike."""
