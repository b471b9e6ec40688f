"""Anthropic's SDK through the broker."""
import os

from anthropic import Anthropic

client = Anthropic(base_url=f"{os.environ['BROKER']}/exchange/anthropic", api_key=os.environ["TOKEN"])
ask = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Say hello."}]}
print(client.messages.create(**ask).content[0].text)
with client.messages.stream(**ask) as stream:
    print("".join(stream.text_stream))
