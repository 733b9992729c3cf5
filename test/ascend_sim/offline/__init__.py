"""Stand-ins for the offline tools of CANN (atc, msame, ais_bench) on a CPU; see ../README.md."""
