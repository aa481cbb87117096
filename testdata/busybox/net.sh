# The network of the loopback device, which must be up.

tests net nc wget cgi notfound refused lo

# port sets $port to one on which nobody listens or talks, below those that the
# kernel hands out, and different for suites that run at the same time.
port() {
	while :; do
		tries=$((${tries:-0} + 1))
		port=$((20000 + ($$ * 16 + tries) % 12000))
		"$BUSYBOX" grep -qsi "$(printf ':%04x ' $port)" /proc/net/tcp /proc/net/tcp6 || return
	done
}

# serve starts a server of the directory www and waits until it answers with the
# file that no other server has; if it does not, because another process was
# faster with the port, it tries the next port. It ends with the test.
serve() {
	"$BUSYBOX" mkdir -p www/cgi-bin
	printf 'served %d\n' $$ >www/up-$$
	trap 'stop' EXIT
	for attempt in 1 2 3; do
		port
		"$BUSYBOX" httpd -f -c /dev/null -p 127.0.0.1:$port -h www 2>/dev/null </dev/null >/dev/null &
		server=$!
		waits=0
		while [ $waits -lt 200 ]; do
			[ "$("$BUSYBOX" wget -q -O - http://127.0.0.1:$port/up-$$ 2>/dev/null)" = "served $$" ] && return
			"$BUSYBOX" usleep 20000
			waits=$((waits + 1))
		done
		stop
	done
	is 'a server' 'none that answers'
}

# stop ends the server.
stop() {
	[ "$server" ] || return
	kill $server
	wait $server
	server=
} 2>/dev/null

net_nc() {
	serve
	printf 'hello\n' >www/file
	is hello "$(printf 'GET /file HTTP/1.0\r\n\r\n' | "$BUSYBOX" nc 127.0.0.1 $port | "$BUSYBOX" tail -n 1)"
}

net_wget() {
	serve
	"$BUSYBOX" seq 2000 >www/file
	"$BUSYBOX" wget -q -O got http://127.0.0.1:$port/file
	is 0 $?
	"$BUSYBOX" cmp got www/file
	is 0 $?
}

net_cgi() {
	{
		printf '#!%s sh\n' "$BUSYBOX"
		printf 'printf "Content-type: text/plain\\r\\n\\r\\n$REQUEST_METHOD $QUERY_STRING\\n"\n'
	} >script
	"$BUSYBOX" chmod 755 script
	serve
	"$BUSYBOX" mv script www/cgi-bin/
	is 'GET a=1' "$("$BUSYBOX" wget -q -O - "http://127.0.0.1:$port/cgi-bin/script?a=1")"
}

net_notfound() {
	serve
	"$BUSYBOX" wget -q -O got http://127.0.0.1:$port/none 2>/dev/null
	is 1 $?
	is 404 "$(printf 'GET /none HTTP/1.0\r\n\r\n' | "$BUSYBOX" nc 127.0.0.1 $port |
		"$BUSYBOX" awk 'NR == 1 { print $2 }')"
}

net_refused() {
	port
	"$BUSYBOX" nc 127.0.0.1 $port 2>message
	is 1 $?
	is 1 "$("$BUSYBOX" grep -c 'Connection refused' message)"
}

net_lo() {
	is '127.0.0.1/8' "$("$BUSYBOX" ip addr show lo | "$BUSYBOX" awk '$1 == "inet" && $2 ~ /^127.0.0.1/ { print $2 }')"
	is '127.0.0.1' "$("$BUSYBOX" ifconfig lo | "$BUSYBOX" sed -n 's/.*inet addr:\([0-9.]*\) .*/\1/p')"
}
