"""OpenAI's SDK through the broker."""
import os

from openai import OpenAI

client = OpenAI(base_url=f"{os.environ['BROKER']}/exchange/openai/v1", api_key=os.environ["TOKEN"])
ask = {"model": "gpt-5", "messages": [{"role": "user", "content": "Say hello."}]}
print([model.id for model in client.models.list()])
print(client.chat.completions.create(**ask).choices[0].message.content)
for chunk in client.chat.completions.create(**ask, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
