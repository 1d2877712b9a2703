"""The report noun, its pictures, pages and timelines."""
