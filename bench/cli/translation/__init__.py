"""Translation of help texts, and the extraction of the sentences to translate."""
