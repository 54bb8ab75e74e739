#!/bin/sh
# Turns the test program beside this file's link into the fake file server.
exec "${0%/*}/program" --exact fake_file_server --ignored --nocapture
