#compdef lls
# Made from the table of commands: go test ./cmd/lls -update

_lls_volumes() {
    local -a names
    names=(${(f)"$(lls list --all --json 2>/dev/null | sed -n 's/^    "name": "\([A-Za-z0-9_.+#/-]*\)",$/\1/p')"})
    compadd -a names
}

_lls() {
    local -a commands
    commands=(
        'list:show the volumes you have and those you may use'
        'info:show all there is to know about a volume, and who holds it'
        'usage:show your quota and what you use of it'
        'watch:show what happens to volumes, as it happens'
        'create:make a new, empty volume with a file system'
        'snapshot:make a writable snapshot of a volume; without NAME, a name is made from SOURCE and the date'
        'mount:mount a volume at a directory'
        'umount:unmount a volume everywhere, or one directory'
        'replay:mount now what the container'\''s /etc/fstab has of volumes'
        'resize:grow a volume and its file system, mounted or not'
        'set:say who sees a volume, how others may mount it, and how far it grows by itself'
        'trim:give the space of deleted files back to the pool, of a mounted volume or of all of yours'
        'keep:keep volumes for a time, whatever the policy says'
        'refresh:put a new snapshot of its origin in a snapshot'\''s place, at the same mount points'
        'delete:move volumes to the trash'
        'undelete:bring volumes back from the trash'
        'purge:destroy volumes of the trash for ever'
    )
    if ((CURRENT == 2)); then
        _describe -t commands command commands
        return
    fi
    local cmd=$words[2]
    shift words
    ((CURRENT--))
    case $cmd in
    list)
        _arguments \
            '--all[those in the trash, too]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    info)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_volumes' '*: :' ;;
    usage)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    watch)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    create)
        _arguments \
            '--size[how big - 500M, 100G, 2T (powers of 1024)]:SIZE:' \
            '--fs[its file system (what default_fs in lls.toml says, ext4 if nothing)]:TYPE:(ext4 xfs)' \
            '--pool[the pool to take it from]:POOL:' \
            '--visible[let other containers see it, and snapshot it]' \
            '--hidden[let no other container see it]' \
            '--mount[mount it at this directory, too]:PATH:_files' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' '*: :' ;;
    snapshot)
        _arguments \
            '--visible[let other containers see it, and snapshot it]' \
            '--hidden[let no other container see it]' \
            '--mount[mount it at this directory, too]:PATH:_files' \
            '--ro[make it read-only for ever, itself included]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_volumes' '*: :' ;;
    mount)
        _arguments \
            '--ro[read-only]' \
            '--save[at each start of this container, too - adds a line to /etc/fstab]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_volumes' '2:PATH:_files -/' ;;
    umount)
        _arguments \
            '--forget[at each start, too - takes its line out of /etc/fstab]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_volumes' '2:PATH:_files -/' ;;
    replay)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' ;;
    resize)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_volumes' '*: :' ;;
    set)
        _arguments \
            '--visibility[whether others see it, and may snapshot it]:WHO:(visible hidden)' \
            '--access[how others may mount it while it is visible]:HOW:(rw ro none)' \
            '--grow-to[have it grow by itself, up to this size, when it fills; none - not any more]:MAX:' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_volumes' '*: :' ;;
    trim)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' '*: :' ;;
    keep)
        _arguments \
            '--for[such as 12h or 7d; never - without an end; 0 - no longer]:TIME:' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '*:NAME:_lls_volumes' ;;
    refresh)
        _arguments \
            '--yes[do not ask]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '1:NAME:_lls_volumes' '*: :' ;;
    delete)
        _arguments \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '*:NAME:_lls_volumes' ;;
    undelete)
        _arguments \
            '--as[under another name; for one volume only]:NEW:' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '*:NAME:_lls_volumes' ;;
    purge)
        _arguments \
            '--yes[do not ask]' \
            '--json[answer in JSON; errors too, on standard error]' \
            '--help[show this text]' \
            '*:NAME:_lls_volumes' ;;
    esac
}

_lls "$@"
