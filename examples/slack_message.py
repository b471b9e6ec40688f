"""Slack's SDK through the broker."""
import os

from slack_sdk import WebClient

client = WebClient(token=os.environ["TOKEN"], base_url=f"{os.environ['BROKER']}/exchange/slack/api/")
print(client.chat_postMessage(channel="#agents", text="The report is ready.")["message"]["text"])
