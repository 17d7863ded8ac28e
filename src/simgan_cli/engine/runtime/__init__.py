"""The process among others: device, ranks, stop requests, threads."""
