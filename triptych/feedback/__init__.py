"""Where preferences come from: answers that are checked, and continuations drawn without the picture."""
