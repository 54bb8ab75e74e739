#!/bin/sh
# Turns the test program beside this file's link into the fake VMM.
exec "${0%/*}/program" --exact fake_vmm --ignored --nocapture
