"""One client for vision-language models: any OpenAI-compatible server, or transformers in this process."""
