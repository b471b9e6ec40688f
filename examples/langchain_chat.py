"""LangChain through the broker: its OpenAI integration takes the same two settings."""
import os

from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="gpt-5", base_url=f"{os.environ['BROKER']}/exchange/openai/v1", api_key=os.environ["TOKEN"])
print(model.invoke("Say hello.").content)
print("".join(chunk.content for chunk in model.stream("Say hello.")))
