"""What an answer must look like, enforced token by token: reasoning, content, tool calls, JSON of a schema.

Input: an ``AnswerGrammar`` (tools, choice, response format) and a vocabulary. Output: for each token of an answer the
ids that may come next, such that it always ends complete and valid within its budget. Knows nothing of logits.
"""
