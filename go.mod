module vmsim

go 1.26
