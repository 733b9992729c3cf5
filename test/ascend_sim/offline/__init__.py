"""Stand-ins for the offline tools of CANN (atc, msame, ais_bench) that run on the CPU; see
../OFFLINE.md.
"""
