"""What the client alone costs, beside the vendors' own SDKs.

figures.py      what is measured, how large, and what is to be reached
conversation.py a long conversation, as each protocol writes it
work.py         the work, the same for every client
ours.py         llm_client, over httpx's engine and over aiohttp
openai_sdk.py   OpenAI's SDK: Chat Completions and Responses
anthropic_sdk.py  Anthropic's SDK: Messages
startup.py      what a cold start costs
table.py        the table of clients and its JSON form
codecs.py       the codecs without a network
"""
