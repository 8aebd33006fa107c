//! Flow to identified flow: process, cgroup, validated token.
