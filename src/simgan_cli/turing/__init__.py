"""The visual Turing test: can people distinguish refined images from real ones?"""
