%% Erlang's processes: main([Case, Part, Size | Arguments]).
-module(bench).
-export([main/1]).

main([Case, Part, Size | Arguments]) ->
    part(Case, Part, list_to_integer(Size), Arguments).

part(_, "receiver", _, _) ->
    register(bench, self()),
    io:format("READY ~s~n", [node()]),
    receive_all(0);
part(Case, "sender", Size, [Node | _]) ->
    To = {bench, list_to_atom(Node)},
    send(Case, To, Size);
part("local_mailbox", "alone", Size, _) ->
    Self = self(),
    Receiver = spawn(fun() -> receive_all(0) end),
    Begun = now_us(),
    one_way(Receiver, 0, Size),
    Receiver ! {'end', Self},
    receive {'end', Size} -> ok end,
    result([Size / (now_us() - Begun)]).

receive_all(Seen) ->
    receive
        {msg, _Number, _Text} -> receive_all(Seen + 1);
        {echo, Number, Text, From} -> From ! {echo, Number, Text}, receive_all(Seen);
        {add, Number, From, Ref} -> From ! {Ref, Number + 1}, receive_all(Seen);
        {'end', From} -> From ! {'end', Seen}, receive_all(0)
    end.

send("rtt", To, Size) ->
    Times = lists:sort([round_trip(To, N) || N <- lists:seq(1, Size)]),
    result([lists:nth(round(Size * P), Times) / 1000 || P <- [0.5, 0.99]]);
send("calls", To, Size) ->
    Self = self(),
    Each = Size div 1000,
    Begun = now_us(),
    Callers = [spawn(fun() -> call(To, Each), Self ! done end) || _ <- lists:seq(1, 1000)],
    [receive done -> ok end || _ <- Callers],
    result([Each * 1000 / (now_us() - Begun)]);
send(_, To, Size) ->
    To ! {'end', self()},
    receive {'end', 0} -> ok end,
    Begun = now_us(),
    one_way(To, 0, Size),
    To ! {'end', self()},
    receive {'end', Size} -> ok end,
    result([Size / (now_us() - Begun)]).

one_way(_, Size, Size) -> ok;
one_way(To, Number, Size) ->
    To ! {msg, Number, <<"hello world">>},
    one_way(To, Number + 1, Size).

round_trip(To, Number) ->
    Begun = erlang:monotonic_time(nanosecond),
    To ! {echo, Number, <<"hello world">>, self()},
    receive {echo, Number, _} -> ok end,
    erlang:monotonic_time(nanosecond) - Begun.

call(_, 0) -> ok;
call(To, Number) ->
    Ref = erlang:monitor(process, To),
    To ! {add, Number, self(), Ref},
    receive {Ref, Answer} when Answer =:= Number + 1 -> ok end,
    erlang:demonitor(Ref, [flush]),
    call(To, Number - 1).

now_us() -> erlang:monotonic_time(microsecond).

result(Values) ->
    io:format("RESULT~s~n", [[io_lib:format(" ~p", [V]) || V <- Values]]),
    receive never -> ok end.
