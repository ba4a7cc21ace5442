"""What people ask: the OpenAI forms, the files they bring, and the one Request that the stages work on."""
