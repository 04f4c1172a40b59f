"""Extensions of the public hooks."""
